"""The shop window: a static page that speaks to the public API and to nothing else. No build step."""
