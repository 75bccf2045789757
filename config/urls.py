"""The URL configuration: the admin site and the URLs of streams."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

# The admin site uses allauth's login, which limits failed attempts.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

handler400 = "streams.api.errors.malformed_request"
handler500 = "streams.api.errors.failed"
urlpatterns = [path("admin/", admin.site.urls), path("", include("streams.urls"))]
