"""An app of a project in which jobs come from elsewhere, or go there."""
