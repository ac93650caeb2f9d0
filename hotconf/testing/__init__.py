"""What tests of services that use hotconf need."""
