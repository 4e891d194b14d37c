"""The report on the models: what `./writecare evaluate` measures, draws and writes.

`material` reads the conversations, `predictions` gets a version's answers, `sections` computes the figures, `plots`
draws them, `page` writes the page, `comparison` compares two versions, `tracking` stores everything as an MLflow run.
"""
