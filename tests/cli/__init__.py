"""Tests of proxyctl."""
