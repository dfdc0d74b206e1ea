MIDDLEWARE = ["hh_jupyter.runtimes.django.SessionMiddleware", "django.middleware.common.CommonMiddleware"]
HH_JUPYTER = {"exclude": ["/health"]}  # Optional, the options above.
