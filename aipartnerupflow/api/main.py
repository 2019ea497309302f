"""Entry points of the API guide.

`uvicorn aipartnerupflow.api.main:app` and `python -m aipartnerupflow.api.main`.
"""

if __name__ == "__main__":
    from aipartnerupflow.cli import serve_main

    serve_main()
else:
    from aipartnerupflow import bootstrap

    bootstrap()

    from apflow_site.asgi import application as app

    __all__ = ["app"]
