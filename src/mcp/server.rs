//! Our side as a server: streamable HTTP in both eras.
