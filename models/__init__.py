"""What a model is: records, errors, registry, one module a capability. No database, no Ray, no HTTP."""
