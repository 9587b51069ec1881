"""What people look at: panels defined once, rendered to several places."""
