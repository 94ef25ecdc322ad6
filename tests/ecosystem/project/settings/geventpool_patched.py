"""The same with the standard library made gevent's, as its users have it."""

from gevent.monkey import patch_all

patch_all()

from .geventpool import *
