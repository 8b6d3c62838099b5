//! From POST to the last frame, through real sockets.
