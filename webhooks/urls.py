from django.urls import re_path

from webhooks.views import receive

urlpatterns = [re_path(r"", receive)]
