"""django-eventstream as its documentation sets it up: its own view, its own storage."""
