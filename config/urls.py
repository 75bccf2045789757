"""Which address is answered by what."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

# One way in for everybody: it counts failed tries.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

handler400 = "streams.api.errors.malformed_request"
handler500 = "streams.api.errors.failed"
urlpatterns = [path("admin/", admin.site.urls), path("", include("streams.urls"))]
