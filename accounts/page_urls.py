from django.urls import path

from accounts import pages

urlpatterns = [
    path("login/", pages.login),
    path("login/link/<str:secret>/", pages.login_link),
    path("logout/", pages.logout),
]
