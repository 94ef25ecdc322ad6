"""The same where django-tenants sets the search path only when the tenant has changed."""

from .tenants import *

TENANT_LIMIT_SET_CALLS = True
