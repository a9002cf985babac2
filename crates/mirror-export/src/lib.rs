//! Plans, discovers and writes a mirror bundle of images and everything that refers to them
