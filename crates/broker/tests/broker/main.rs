//! A whole broker in this process, used over TCP.

mod fetch;
mod groups;
mod hostile;
mod metadata;
mod produce;
mod restart;
mod support;
mod versions;
