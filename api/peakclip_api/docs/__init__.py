"""The reading page of the API's description: static files, served as they are. Nothing is loaded from elsewhere."""
