"""The URLs of the admin, imported by the first request for one of its pages."""

from django.contrib import admin

admin.autodiscover()
urlpatterns, _, _ = admin.site.urls
