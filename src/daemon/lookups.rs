//! Until other repositories can be looked up: every question is refused.

use async_trait::async_trait;
use bytes::Bytes;

use crate::ports::{Lookup, PortError, PortResult};
use crate::resource::server::GitCredentials;

pub(super) struct NoLookups;

#[async_trait]
impl Lookup for NoLookups {
    async fn commit(&self, url: &str, _: &str, _: Option<&GitCredentials>) -> PortResult<String> {
        Err(PortError::stalled(format!("failed to look up `{url}`")))
    }
    async fn archive(
        &self,
        url: &str,
        _: &str,
        _: Option<&str>,
        _: Option<&GitCredentials>,
    ) -> PortResult<Bytes> {
        Err(PortError::stalled(format!("failed to fetch `{url}`")))
    }
}
