"""What can be asked for, the toolbar's own pages included."""

from debug_toolbar.toolbar import debug_toolbar_urls
from shop.urls import urlpatterns as shop

urlpatterns = [*shop, *debug_toolbar_urls()]
