//! Discovers everything that refers to an OCI image, on any registry, and says what it could not settle
