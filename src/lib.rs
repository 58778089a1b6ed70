//! Portolan: one process that knows where every service is and tells everyone who asks, by DNS, by
//! carrying connections and requests, and by rendering files.
//!
//! # From registries to answers
//!
//! ```text
//! registry   what each source says: never heard, live, or stale with the last it said
//!    │ watch
//! catalog    unites them, decides who is eligible, numbers the result: a snapshot
//!    │
//! app        compiles a table for each face and swaps all of them by one pointer
//!    ├── dns      questions to bytes that were written beforehand
//!    ├── proxy    requests by host and path, connections by listener, to endpoints
//!    ├── render   templates to files
//!    └── api      status, metrics, reload
//! ```
//!
//! Data flows one way. The catalog is the only writer of snapshots ([`catalog::assemble`]), `app` the
//! only one of tables ([`app::Tables`]); everyone else reads. Control goes by phases
//! ([`lifecycle`]): whoever has to stop waits for a phase instead of being called.
//!
//! # Rooms, from the ground up
//!
//! | Layer | Rooms |
//! |---|---|
//! | 0 | [`lifecycle`], [`units`], [`random`], [`suggest`], [`exec`], [`telemetry`], [`watching`] |
//! | 1 | [`catalog`]: model, snapshot, publishing, state on disk; [`net`]: sockets, accepting, parking |
//! | 2 | [`registry`], [`health`], [`dns`], [`proxy`], [`render`], [`api`] |
//! | 3 | [`config`]: one document, decoded by the struct of each room, checked as a whole; [`migrate`]: what others' command lines come to |
//! | 4 | [`app`]: start, publish, reload, drain; above it [`cli`] and the binary |
//!
//! A room uses itself and the layers below it, never a sibling: what siblings share stands in layer
//! 1, or `app` hands it over. `tests/architecture.rs` holds this, the fences around libraries
//! (pingora in two files of the proxy, hickory in tests only so far), `unsafe` to two files, and
//! files to 400 lines without their tests.
//!
//! # What is promised, as it is built
//!
//! - **All faces agree.** The tables of one snapshot are published by one swap, and loaded only when
//!   the bytes to answer are there: per batch of questions, per request, per connection. Once a
//!   generation was shown to anybody, nobody gets an older one any more.
//! - **Failures take nothing away.** A failure never empties a view ([`catalog::RegistryState`]).
//!   What the registries said is on disk ([`catalog::store`]), and a name that nobody has spoken of
//!   yet is SERVFAIL or 503, never a "no".
//! - **Changes are cheap in large catalogs.** Maps are persistent ([`catalog::Shards`]); versions share what
//!   is equal, and consumers look only at what is another allocation.
//! - **Answering is pure.** [`dns::respond()`], [`proxy::upstream::Upstream::pick`] and
//!   [`proxy::route::RouteTable::route`] are pure, and neither lock nor wait. What an endpoint
//!   remembers belongs to its identity and outlives every table. Old tables are freed by the
//!   publisher, not by who answers from them.
//! - **Mistakes stay where they were made.** A broken entry is refused with its place and shown under
//!   its service; a configuration is taken as a whole or not at all.
//!
//! # Threads
//!
//! Data workers, each a single-threaded runtime with its own proxy; pinned threads for plain DNS
//! questions by UDP, and one for the rest of DNS; one that
//! compiles and publishes; two of lower priority for registries, rendering and the admin face.
//!
//! # Where to add something
//!
//! A policy is one file in `proxy/balance/`, a dialect one in `dns/dialect/`, a kind of registry one
//! in `registry/`; `docs/` has a page on each, and on why things are as they are.
pub mod api;
pub mod app;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod dns;
pub mod exec;
pub mod health;
pub mod lifecycle;
pub mod migrate;
pub mod net;
pub mod proxy;
pub mod random;
pub mod registry;
pub mod render;
pub mod suggest;
pub mod telemetry;
pub mod units;
pub mod watching;
