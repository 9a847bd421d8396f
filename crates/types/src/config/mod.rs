//! The user's configuration file (`KEY=VALUE`, the lexer of `xl.cfg`).
