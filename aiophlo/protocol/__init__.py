"""One exchange over HTTP: the only place that sends to the API."""
