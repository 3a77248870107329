"""The study: tables, claims, figures and the page."""
