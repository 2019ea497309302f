from django.apps import AppConfig
from django.contrib.admin import apps


class SiteConfig(AppConfig):
    name = "apflow_site"


class SiteAdminConfig(apps.AdminConfig):
    """Django's admin app with our admin site as the default."""

    default = False
    default_site = "apflow_site.admin.AdminSite"
