"""The apps that `test_servers` runs on real servers."""
