"""The report on the models: what `./writecare evaluate` measures, draws and writes.

`material` reads the conversations, `reading` what a version says of them, `sections` makes the figures, `plots` draws
them, `page` writes them down, `comparing` sets two versions side by side, `tracking` keeps it all as an MLflow run.
"""
