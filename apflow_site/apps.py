from django.apps import AppConfig
from django.contrib.admin import apps
from django.db.backends.signals import connection_created

from apflow_site.db.connections import set_up_session


class SiteConfig(AppConfig):
    name = "apflow_site"

    def ready(self) -> None:
        connection_created.connect(set_up_session)


class SiteAdminConfig(apps.SimpleAdminConfig):
    """Django's admin app with our admin site as the default.

    `apflow_site.urls` registers the pages, so that processes without pages need not import them.
    """

    default = False
    default_site = "apflow_site.admin.AdminSite"
