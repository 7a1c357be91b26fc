"""The labelling app: pages on which people compare answers, and on which somebody looks after the work.

Starlette, Jinja2 and plain ES modules; no build step, nothing from outside, never torch. `app.build` makes
the ASGI application of a store; `server` runs it.
"""
