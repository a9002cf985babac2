//! Proves a mirror bundle whole, or says exactly what is wrong; and imports it
