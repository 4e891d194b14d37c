"""The models and their shared code: records, errors, registry, one module for each capability.

Nothing here imports a database driver, Ray or an HTTP library.
"""
