//! A Marathon by a script: it tells what it is told to know, as releases from 0.9 to 1.11 do, and
//! fails in all the ways in which they do. It keeps a log of all that it was asked.
//!
//! It needs nothing of what is around it, so that a benchmark may run it in a process of its own.

mod era;
mod events;
mod fake;
mod http;
mod script;
mod shapes;
mod streams;
mod world;
mod writes;

pub(crate) use era::Era;
pub(crate) use events::Said;
pub(crate) use fake::{Fake, Told};
pub(crate) use script::{Auth, Fault, Standby};
pub(crate) use world::{App, End, Net, State, Task, World};
