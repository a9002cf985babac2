//! A registry with named personas and scripted faults, for integration tests
