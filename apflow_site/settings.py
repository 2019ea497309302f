"""Django's settings. Values that the operator may choose come from `apflow_site.config`."""

import os
import secrets
import socket
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apflow_site.config import get_config, secret_variables
from apflow_site.config.elsewhere import NO_SECRETS_VARIABLE, for_processes, for_ray_nodes
from apflow_site.databases import database_settings
from apflow_site.origins import ALLOWED_HEADERS, EXPOSED_HEADERS, origin_patterns
from apflow_site.secret import derived_secret, persistent_secret, private_folder
from apflow_site.static_version import static_version

APFLOW = get_config()

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = private_folder(Path(APFLOW.server.data_dir))
FILES_DIR = DATA_DIR / "files"  # made with the first file, unless the operator has chosen one
if APFLOW.files.folder is not None:
    FILES_DIR = private_folder(Path(APFLOW.files.folder), setting="files.folder")


def generated(name: str) -> str:
    """Return the secret that the data folder has by this name; another one where code of tasks runs."""
    return secrets.token_urlsafe(48) if NO_SECRETS_VARIABLE in os.environ else persistent_secret(DATA_DIR / name)


# Signs sessions and links, which must be valid on all machines. They share the operator's secret,
# not their data folders.
SECRET_KEY = (
    derived_secret(APFLOW.auth.jwt_secret, purpose="sessions") if APFLOW.auth.jwt_secret else generated("secret_key")
)
SECRET_KEY_FALLBACKS = [derived_secret(secret, purpose="sessions") for secret in APFLOW.auth.jwt_secrets[1:]]
# prometheus-client reads this when it is imported. The processes of this machine write their
# metrics to this folder (tasks/telemetry/metrics.py).
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(DATA_DIR / "metrics" / socket.gethostname())
DEBUG = False
ALLOWED_HOSTS = ["*"]  # apflow_site.edge.hosts checks the host; its error names the setting
ROOT_URLCONF = "apflow_site.urls"
ASGI_APPLICATION = "apflow_site.asgi.application"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = ["apflow_site.formats"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = APFLOW.limits.body_bytes
DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = DAPHNE_WEBSOCKET_MAX_FRAME_SIZE = APFLOW.limits.body_bytes
DATA_UPLOAD_MAX_NUMBER_FIELDS = 40_000  # more than a URL of 64 KiB can contain: parsing a query never fails

INSTALLED_APPS = [
    "apflow_site",  # its `runserver` is daphne's, with an embedded worker
    "channels",
    "corsheaders",
    "unfold.apps.BasicAppConfig",  # the theme of the admin; must come before the admin
    "apflow_site.apps.SiteAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_q",
    "accounts",
    "llmkeys",
    "tasks",
    "a2a.apps.WireConfig",
]
MIDDLEWARE = ["apflow_site.edge.handler.edge"]
OTHER_ORIGIN_MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware"]
CORS_ALLOWED_ORIGIN_REGEXES = origin_patterns(APFLOW)
CORS_ALLOW_CREDENTIALS = True  # as the predecessor; the interfaces for programs accept no cookies
CORS_ALLOW_HEADERS = ALLOWED_HEADERS
CORS_EXPOSE_HEADERS = EXPOSED_HEADERS
PAGE_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "apflow_site.page_middleware.opener_policy",
    "csp.middleware.CSPMiddleware",
    "apflow_site.static_files.StaticFiles",
    "apflow_site.static_files.compressed",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# The admin's checks look for middleware in MIDDLEWARE; ours is in PAGE_MIDDLEWARE. Views with forms
# use `csrf_protect`, as the admin does.
SILENCED_SYSTEM_CHECKS = ["admin.E408", "admin.E409", "admin.E410"]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "media-src": ["'self'"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apflow_site.page_middleware.about_server",
            ]
        },
    }
]

STATIC_URL = f"/static/{static_version()}/"
WHITENOISE_STATIC_PREFIX = "/static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 300
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = (APFLOW.server.public_url or "").startswith("https://")
# Behind a proxy that terminates TLS, forms have the origin of the public URL.
CSRF_TRUSTED_ORIGINS = ["{0.scheme}://{0.netloc}".format(urlsplit(url))] if (url := APFLOW.server.public_url) else []
CSRF_FAILURE_VIEW = "apflow_site.errors.forged"
X_FRAME_OPTIONS = "DENY"
SECURE_CROSS_ORIGIN_OPENER_POLICY = None  # apflow_site.page_middleware.opener_policy, where browsers heed it
LOGIN_URL = "/login/"
UNFOLD = {
    "SITE_TITLE": "aipartnerupflow",
    "SITE_HEADER": "aipartnerupflow",
    "SITE_SUBHEADER": "Administration",
    "SITE_SYMBOL": "account_tree",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": f"{STATIC_URL}dashboard/icon.svg"}],
    "STYLES": [f"{STATIC_URL}admin_theme/theme.css"],
    "SIDEBAR": {"navigation": "apflow_site.admin.sidebar"},
}

DATABASES = {
    "default": database_settings(
        APFLOW.database.url,
        connect_seconds=APFLOW.database.connect_seconds,
        sqlite_synchronous=APFLOW.database.sqlite_synchronous,
    )
}

# Tells other web processes that a user has changed (a2a/live/access.py). Without Redis they look once a minute.
CHANNEL_LAYERS: dict[str, Any] = {}
if APFLOW.redis.url is not None:
    CHANNEL_LAYERS["access"] = {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        # The layer waits 5 s for each message, and after as many the client would give up by itself.
        "CONFIG": {"hosts": [{"address": APFLOW.redis.url, "socket_timeout": 10}], "prefix": "apflow"},
    }

# A job is a wake-up that may be lost or repeated (docs/design/queue.md); django-q2 stores no results.
Q_CLUSTER = {
    "name": "apflow",
    "broker_class": "tasks.queue.broker.NotifiedBroker",
    "orm": "default",
    "workers": APFLOW.worker.processes,
    "queue_limit": APFLOW.worker.processes,
    "daemonize_workers": False,
    "recycle": 100_000,
    "timeout": 365 * 24 * 3600,  # a job runs as long as there is work; tasks have their own timeouts
    "retry": 366 * 24 * 3600,
    "save_limit": -1,
    "scheduler": False,
    "guard_cycle": 5,  # a process that ends is noticed at once: tasks.worker.cluster
    "log_level": "WARNING",
}

REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "a2a.rest.views.refuse",
    "DEFAULT_SCHEMA_CLASS": "a2a.rest.openapi.OperationSchema",  # imported for the first request for the document
}
SIMPLE_JWT = {
    "SIGNING_KEY": APFLOW.auth.jwt_secret or generated("jwt_secret"),
    "ALGORITHM": "HS256",
    "USER_ID_FIELD": "username",
    "USER_ID_CLAIM": "user_id",
    "CHECK_REVOKE_TOKEN": True,
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=APFLOW.auth.access_minutes),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=APFLOW.auth.refresh_days),
}
SESSION_COOKIE_AGE = APFLOW.auth.refresh_days * 86_400
AUTHENTICATION_BACKENDS = ["accounts.backends.UserBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Encrypts stored keys. Separate from the key that signs sessions, so that each can be changed
# alone.
APFLOW_ENCRYPTION_KEYS = APFLOW.llm.encryption_keys or (generated("llm_key"),)

APFLOW_LLM = APFLOW.llm
# Processes of the server remove these from their environment, and give them to the processes that
# they start (tasks/own_process.py).
APFLOW_SECRET_ENVIRONMENT = secret_variables(os.environ)
APFLOW_EXECUTOR_MODULES = APFLOW.executors.modules
APFLOW_WORKFLOWS_REPLAY = (
    False  # whether each workflow goes on with what another version of its code has begun: under `dev`
)
APFLOW_RAY_ENVIRONMENT = for_ray_nodes(APFLOW)
APFLOW_PROCESS_ENVIRONMENT = partial(for_processes, APFLOW)
APFLOW_COMMAND = APFLOW.executors.command
APFLOW_CREWAI = APFLOW.executors.crewai
APFLOW_LANGGRAPH = APFLOW.executors.langgraph
APFLOW_ALLOW_PRIVATE = APFLOW.executors.rest.allow_private
APFLOW_REST_ALLOWED_PORTS = APFLOW.executors.rest.allowed_ports
#: Webhook kind → function that renders an event as an HTTP request
#: (`tasks.services.messages.webhook_requests`).
APFLOW_WEBHOOK_RENDERERS = {
    "native": "tasks.services.messages.webhook_requests.native",
    "a2a": "a2a.protocol.push.render",
    "a2a_0_3": "a2a.protocol.push.render_0_3",
    "failure": "tasks.services.messages.failure_messages.to_url",
    "failure_email": "tasks.services.messages.failure_messages.by_mail",
    "failure_slack": "tasks.services.messages.slack.failure",
    "question": "tasks.services.messages.question_messages.to_url",
    "question_email": "tasks.services.messages.question_messages.by_mail",
    "question_slack": "tasks.services.messages.slack.question",
    "assigned": "tasks.services.messages.question_messages.to_url",
    "assigned_email": "tasks.services.messages.question_messages.by_mail",
    "assigned_slack": "tasks.services.messages.slack.question",
    "judge": "tasks.services.messages.failure_messages.judge_to_url",
    "judge_email": "tasks.services.messages.failure_messages.judge_by_mail",
    "judge_slack": "tasks.services.messages.slack.judge",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "apflow_site.logs.formatter", "kind": APFLOW.log.format}},
    "filters": {
        # Django logs every reply with a status of 500 or more; keep only those of unexpected
        # exceptions.
        "unexpected": {"()": "django.utils.log.CallbackFilter", "callback": lambda record: bool(record.exc_info)},
        "redaction": {"()": "llmkeys.redact.Redaction"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["redaction"]},
        "requests": {"class": "apflow_site.logs.RequestLines", "formatter": "line", "filters": ["redaction"]},
    },
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "django.request": {"filters": ["unexpected"]},
        "audit": {"level": "INFO"},  # `log.level` does not turn the audit log off
        "tasks": {"level": APFLOW.log.level.upper()},
        "tasks.pools.prints": {"level": "INFO"},  # nor what tasks print
        "a2a": {"level": APFLOW.log.level.upper()},
        "accounts": {"level": APFLOW.log.level.upper()},
        "llmkeys": {"level": APFLOW.log.level.upper()},
        "apflow_site": {"level": APFLOW.log.level.upper()},
        "aipartnerupflow": {"level": APFLOW.log.level.upper()},
        "requests": {"handlers": ["requests"], "propagate": False, "level": APFLOW.log.level.upper()},
        "runs": {"level": APFLOW.log.level.upper()},
    },
}
