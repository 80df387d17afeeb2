"""What the tests share: real database servers, fresh databases on them, engines on those."""
