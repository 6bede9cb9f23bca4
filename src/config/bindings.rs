//! `[[binding]]`: which local user, group or unit may use which integration.

use super::integrations::IntegrationConfig;
use super::reader::{Reader, Section};
use super::source::{At, Spot};
use crate::lifecycle::{Allow, Binding, IntegrationId, NOBODY, PathRule, UnitRule, Who};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub(super) fn bindings(
    reader: &mut Reader<'_>,
    sections: Vec<Section>,
    integrations: &BTreeMap<IntegrationId, IntegrationConfig>,
    named: &[String],
) -> Vec<Binding> {
    sections.into_iter().filter_map(|section| binding(reader, section, integrations, named)).collect()
}

fn binding(
    reader: &mut Reader<'_>,
    mut section: Section,
    integrations: &BTreeMap<IntegrationId, IntegrationConfig>,
    named: &[String],
) -> Option<Binding> {
    let heading = section.at;
    let integration = reader.required(&mut section, "integration", "name the integration's id");
    let who = who(reader, &mut section, heading);
    let allow = allow(reader, &mut section, heading);
    let paths = paths(reader, &mut section, allow);
    reader.finish(section);
    let integration = integration?;
    let Some(config) =
        integrations.values().find(|config| config.identity.integration.as_str() == integration.value)
    else {
        if !named.contains(&integration.value) {
            reader.wrong(
                integration.at,
                format!("there is no [[integration]] `{}`", integration.value),
                "bind an integration's id as it is configured",
            );
        }
        return None;
    };
    Some(Binding {
        who: who?,
        integration: config.identity.integration.clone(),
        provider: config.identity.provider.clone(),
        allow,
        paths,
    })
}

/// What the proxy lets through. An empty list would let nothing through, and is somebody's mistake.
fn paths(reader: &mut Reader<'_>, section: &mut Section, allow: Allow) -> Vec<PathRule> {
    let heading = section.at;
    let Some(texts) = reader.texts(section, "paths") else { return Vec::new() };
    match texts.first() {
        None => reader.wrong(heading, "`paths` is empty", "name what may be called, or leave `paths` out"),
        Some(first) if !allow.proxy => {
            let at = first.at;
            let remedy = "write allow = [\"proxy\"], or leave `paths` out";
            reader.warn(at, "`paths` limits the proxy, which this binding does not allow", remedy);
        }
        Some(_) => {}
    }
    let rule = |Spot { value, at }: Spot<String>| match PathRule::parse(&value) {
        Ok(rule) => Some(rule),
        Err(why) => {
            let remedy = "write a path below the API's base: \"/repos/acme/**\", or \"GET /user\"";
            reader.wrong(at, format!("{value:?}: {why}"), remedy);
            None
        }
    };
    texts.into_iter().filter_map(rule).collect()
}

fn who(reader: &mut Reader<'_>, section: &mut Section, heading: At) -> Option<Who> {
    let given = ["unit", "user", "uid", "group", "gid"].into_iter().filter(|key| section.has(key)).count();
    let unit = reader.text(section, "unit");
    let user = reader.text(section, "user");
    let uid = reader.integer(section, "uid");
    let group = reader.text(section, "group");
    let gid = reader.integer(section, "gid");
    if given != 1 {
        reader.wrong(
            heading,
            if given == 0 { "the binding names nobody" } else { "the binding names several callers" },
            "name exactly one of unit, user, uid, group, gid",
        );
        return None;
    }
    if let Some(unit) = unit {
        let rule = UnitRule::parse(&unit.value);
        return rule
            .map_err(|why| reader.wrong(unit.at, format!("unit {:?}: {why}", unit.value), why.remedy()))
            .map(Who::Unit)
            .ok();
    }
    let who = match (user, uid, group, gid) {
        (Some(user), ..) => known(reader, &user, "user").map(|id| (Who::Uid(id), user.at)),
        (_, Some(uid), ..) => number(reader, &uid).map(|id| (Who::Uid(id), uid.at)),
        (_, _, Some(group), _) => known(reader, &group, "group").map(|id| (Who::Gid(id), group.at)),
        (_, _, _, Some(gid)) => number(reader, &gid).map(|id| (Who::Gid(id), gid.at)),
        (None, None, None, None) => None,
    };
    let (who, at) = who?;
    if who == Who::Uid(NOBODY) {
        reader.wrong(
            at,
            "`nobody` stands for users whom the kernel cannot name",
            "give the app a user of its own",
        );
        return None;
    }
    if let Who::Uid(id) | Who::Gid(id) = &who
        && DYNAMIC.contains(id)
    {
        reader.warn(
            at,
            format!(
                "{id} is an id that systemd lends to services with DynamicUser= and gives to others later"
            ),
            "bind the service by its unit: unit = \"billing.service\"",
        );
    }
    Some(who)
}

/// systemd's dynamic users (systemd's document on uids and gids).
const DYNAMIC: RangeInclusive<u32> = 61_184..=65_519;

fn known(reader: &mut Reader<'_>, name: &Spot<String>, kind: &str) -> Option<u32> {
    let id =
        if kind == "user" { reader.around.user_id(&name.value) } else { reader.around.group_id(&name.value) };
    if id.is_none() {
        let value = &name.value;
        reader.wrong(
            name.at,
            format!("there is no {kind} {value:?} on this host"),
            format!("make it, or write its number as {}", if kind == "user" { "uid" } else { "gid" }),
        );
    }
    id
}

fn number(reader: &mut Reader<'_>, id: &Spot<i64>) -> Option<u32> {
    let fits = u32::try_from(id.value).ok();
    if fits.is_none() {
        reader.wrong(id.at, format!("{} is not an id", id.value), "write a number from 0 to 4294967295");
    }
    fits
}

fn allow(reader: &mut Reader<'_>, section: &mut Section, heading: At) -> Allow {
    let mut allow = Allow::default();
    let Some(words) = reader.texts(section, "allow") else {
        return Allow { token: true, proxy: false };
    };
    if words.is_empty() {
        reader.warn(
            heading,
            "the binding allows status alone",
            "write allow = [\"token\"] to let it read tokens",
        );
    }
    for Spot { value, at } in words {
        match value.as_str() {
            "token" => allow.token = true,
            "proxy" => allow.proxy = true,
            "status" => {}
            _ => reader.wrong(
                at,
                format!("{value:?} cannot be allowed"),
                "use \"token\", \"proxy\" or \"status\"",
            ),
        }
    }
    allow
}
