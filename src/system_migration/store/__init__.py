"""The tracking tables and the statements on them. Every function takes a connection and never commits."""
