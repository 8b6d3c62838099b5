//! Versions beside each other, on a log in a directory.
