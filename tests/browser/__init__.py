"""Tests in a browser. A package, so that the browser ends with it: see the fixture `browser`."""
