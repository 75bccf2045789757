"""django-eventstream as its documentation sets it up, with its own view and its own storage."""
