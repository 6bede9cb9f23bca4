//! Explains to an operator who the kernel says a process is, and what each binding says to it: the same look and the same
//! judgement as for a peer of the app socket.
//!
//! It looks and changes nothing; what the process would be told as an app it learns nowhere here.

use super::answers::json_of;
use super::app::words;
use super::cgroup::NoUnit;
use super::control::ControlDesk;
use super::orders::Denial;
use super::peer::{Peer, knows_units};
use crate::lifecycle::{Caller, Code, IntegrationId, Refusal};
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http::Response;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pid: u32,
}

/// Who a process is, and what it may use.
#[derive(Serialize)]
struct Explained {
    pid: u32,
    uid: u32,
    gids: Vec<u32>,
    unit: Option<String>,
    /// Why no unit is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    bindings: Vec<Held>,
}

/// One binding, held against the process.
#[derive(Serialize)]
struct Held {
    integration: IntegrationId,
    rule: String,
    fits: bool,
    why: &'static str,
    allow: Vec<&'static str>,
}

pub(super) async fn explain(
    State(desk): State<ControlDesk>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Response<Body>, Denial> {
    let Query(Asked { pid }) = query.map_err(|_shape| wrong("pid is the number of a process, once"))?;
    let peer = match Peer::of_process(pid).await {
        Ok(peer) => peer,
        Err(NoUnit::Gone) => return Err(wrong("there is no process of that number").into()),
        Err(why) => return Err(wrong(&why.to_string()).into()),
    };
    let (caller, why) = as_on_the_socket(&peer);
    let bindings = desk.handle.board().bindings();
    let held = bindings.explain(&caller).into_iter().map(|verdict| Held {
        integration: verdict.binding.integration.clone(),
        rule: verdict.binding.who.to_string(),
        fits: verdict.fits,
        why: verdict.why,
        allow: words(verdict.binding.allow),
    });
    let bindings = held.collect();
    let unit = caller.unit.as_deref().map(str::to_owned);
    Ok(json_of(&Explained { pid, uid: caller.uid, gids: caller.groups, unit, why, bindings }))
}

/// A kernel that can be asked about a process cannot always be asked about a peer: then no peer has a unit.
fn as_on_the_socket(peer: &Peer) -> (Caller, Option<String>) {
    let caller = peer.caller().clone();
    if knows_units() {
        return (caller, peer.no_unit().map(ToString::to_string));
    }
    (Caller { unit: None, ..caller }, Some(NoUnit::Kernel.to_string()))
}

fn wrong(detail: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, detail.to_owned())
}
