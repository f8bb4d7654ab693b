from gunicorn_prom_hooks import install

install(globals())
