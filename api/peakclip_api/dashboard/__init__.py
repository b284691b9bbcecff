"""The dashboard page: static files, served as they are. No build step, nothing loaded from elsewhere."""
