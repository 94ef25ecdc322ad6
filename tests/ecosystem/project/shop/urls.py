"""What can be asked for."""

from django.urls import path

from shop.views import buy

urlpatterns = [path("buy/<int:number>/<mood>", buy)]
