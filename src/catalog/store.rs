//! Store.
use super::RegistryView;
use std::time::SystemTime;
/// What a registry said last, and when.
#[derive(Debug, Clone)]
pub struct StoredView {
    /// All that it said.
    pub view: RegistryView,
    /// When it was heard last.
    pub heard_at: SystemTime,
}
