"""Small templates, one language feature each, compared with jinja2 as transformers sets it up."""
CONTEXT = {}
SNIPPETS = ["{{ 1 + 1 }}"]
