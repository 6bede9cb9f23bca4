//! `grantd file`: keeps a token file fresh, for programs that can only read one.
//!
//! Runs under the reader's own user (`grantd-file@.service`). The file is written aside and renamed, so that a reader sees a whole
//! one or none; it is removed once its token has ended or was revoked, even if the daemon is away by then. A stop leaves it:
//! the unit's runtime directory goes with the unit.

use super::args::{FileArgs, WishArgs};
use super::end::End;
use super::events::Events;
use super::terminal;
use super::token::{Answer, read, understand};
use crate::edge::systemd;
use crate::engine::Clock as _;
use crate::time::Timestamp;
use std::fs::Permissions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Keeps the file until a signal says stop.
///
/// # Errors
/// 1 where the daemon refuses for good, 77 where the file cannot be written. While the daemon is away it is asked again.
pub(super) async fn file(args: FileArgs) -> Result<(), End> {
    let folder = folder_of(&args.path)?;
    let mut keeper = Keeper {
        integration: args.integration,
        folder,
        path: args.path,
        mode: args.mode,
        template: args.template,
        wish: WishArgs { min_ttl: Duration::ZERO, wait: Duration::ZERO, app: args.app },
        until: None,
    };
    // Whatever stands there is not known to be alive.
    keeper.remove()?;
    tokio::select! {
        end = keeper.keep() => Err(end),
        () = stopped() => Ok(()),
    }
}

/// Ends at SIGTERM or SIGINT.
async fn stopped() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // The signals do what they do by themselves then.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

struct Keeper {
    integration: String,
    folder: PathBuf,
    path: PathBuf,
    mode: u32,
    template: String,
    wish: WishArgs,
    /// When the token in the file ends, if it does.
    until: Option<Timestamp>,
}

impl Keeper {
    /// Follows the daemon, and comes back to it when it was away.
    async fn keep(&mut self) -> End {
        let mut pause = SHORTEST;
        loop {
            let end = match self.follow(&mut pause).await {
                Ok(()) => End::unreachable("the daemon hung up"),
                Err(end) if end.is_passing() => end,
                Err(end) => {
                    let removed = self.remove();
                    return removed.err().unwrap_or(end);
                }
            };
            terminal::complain(end.said());
            let _waited = timeout(pause, std::future::pending::<()>()).await;
            pause = (pause * 2).min(LONGEST);
            if let Err(end) = self.expire() {
                return end;
            }
        }
    }

    async fn follow(&mut self, pause: &mut Duration) -> Result<(), End> {
        let mut events = Events::open(&self.wish.app.socket, &self.integration).await?;
        *pause = SHORTEST;
        loop {
            match timeout(HOP, events.next()).await {
                Ok(Some(name)) if name == "lease" => self.renew().await?,
                Ok(Some(_other)) => {}
                Ok(None) => return Ok(()),
                Err(_quiet) => self.expire()?,
            }
        }
    }

    /// Takes over the lease that is served now.
    async fn renew(&mut self) -> Result<(), End> {
        match read(&self.integration, &self.wish).await {
            Ok(body) => self.write(&understand(&body)?),
            Err(end) if end.is_unreachable() => Err(end),
            Err(end) => {
                terminal::complain(end.said());
                self.remove()
            }
        }
    }

    fn write(&mut self, answer: &Answer<'_>) -> Result<(), End> {
        let text = fill(&self.template, answer);
        replace(&self.folder, &self.path, self.mode, text.as_bytes())
            .map_err(|error| unwritable(&self.path, &error))?;
        self.until = answer.expires_at.and_then(Timestamp::parse);
        systemd::ready();
        Ok(())
    }

    /// Removes the file if its token has ended.
    fn expire(&mut self) -> Result<(), End> {
        let now = crate::edge::clock::WallClock.now();
        if self.until.is_some_and(|until| until <= now) { self.remove() } else { Ok(()) }
    }

    fn remove(&mut self) -> Result<(), End> {
        self.until = None;
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(unwritable(&self.path, &error)),
        }
    }
}

fn folder_of(path: &Path) -> Result<PathBuf, End> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_owned);
    if path.file_name().is_none() || path.is_dir() {
        return Err(End::usage(format!("{} is a folder: name a file", path.display())));
    }
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(End::usage(format!("there is no folder {}: make it first", folder.display())))
    }
}

/// Puts a whole file in the place of whatever is there. A symbolic link is replaced, not followed.
fn replace(folder: &Path, path: &Path, mode: u32, text: &[u8]) -> io::Result<()> {
    let mut aside = tempfile::Builder::new().prefix(".grantd-").tempfile_in(folder)?;
    aside.as_file().set_permissions(Permissions::from_mode(mode))?;
    aside.write_all(text)?;
    aside.as_file().sync_data()?;
    let _file = aside.persist(path)?;
    Ok(())
}

fn unwritable(path: &Path, error: &io::Error) -> End {
    End::permission(format!("{} cannot be written ({})", path.display(), error.kind()))
}

/// The template with its places filled in. Braces that name nothing stay as they are, so that JSON can be written.
fn fill(template: &str, answer: &Answer<'_>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(template.len() + ROOM));
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let place = after.split_once('}').and_then(|(name, tail)| Some((value(name, answer)?, tail)));
        match place {
            Some((value, tail)) => {
                text.push_str(&value);
                rest = tail;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

fn value(name: &str, answer: &Answer<'_>) -> Option<Zeroizing<String>> {
    let value = match name {
        "access_token" => answer.access_token.to_owned(),
        "token_type" => answer.token_type.to_owned(),
        "expires_at" => answer.expires_at.unwrap_or_default().to_owned(),
        "scope" => answer.scope.unwrap_or_default().to_owned(),
        "integration" => answer.integration.to_owned(),
        "generation" => answer.generation.to_string(),
        _ => return None,
    };
    Some(Zeroizing::new(value))
}

/// A text of this length is filled in without a second allocation, which would leave a copy behind.
const ROOM: usize = 16 * 1024;
/// How long the clock is not looked at: a host that was suspended is late by this much.
const HOP: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::{Answer, fill, folder_of, replace};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    const ANSWER: Answer<'static> = Answer {
        access_token: "at-{scope}",
        token_type: "Bearer",
        expires_at: None,
        scope: Some("repo"),
        integration: "github",
        generation: 7,
    };

    #[test]
    fn places_are_filled_in_once_and_other_braces_stay() {
        let filled = |template| fill(template, &ANSWER).to_string();
        assert_eq!(filled("{access_token}"), "at-{scope}");
        assert_eq!(
            filled(r#"{"token":"{access_token}","g":{generation},"e":"{expires_at}"}{"#),
            r#"{"token":"at-{scope}","g":7,"e":""}{"#
        );
        assert_eq!(filled("{token_type} {scope} {integration} {nothing}"), "Bearer repo github {nothing}");
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("token"), folder.path().join("other"));
        std::fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        replace(folder.path(), &path, 0o440, b"one").unwrap();
        replace(folder.path(), &path, 0o400, b"two").unwrap();
        let meta = std::fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_file());
        assert_eq!(meta.permissions().mode() & 0o777, 0o400);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "theirs");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_reader_never_sees_a_torn_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        replace(folder.path(), &path, 0o600, &[b'0'; 4096]).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read_until(&stop, &path));
            for round in 0..400_u32 {
                let digit = b'0' + u8::try_from(round % 10).unwrap();
                replace(folder.path(), &path, 0o600, &[digit; 4096]).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }

    fn read_until(stop: &AtomicBool, path: &Path) {
        while !stop.load(Ordering::Relaxed) {
            let text = std::fs::read(path).unwrap();
            assert_eq!(text.len(), 4096);
            assert!(text.iter().all(|byte| *byte == text[0]));
        }
    }

    #[test]
    fn a_path_that_can_hold_no_file_is_a_mistake() {
        assert!(folder_of(Path::new("/tmp")).is_err());
        assert!(folder_of(Path::new("/nowhere/at/all/token")).is_err());
        assert_eq!(folder_of(Path::new("token")).unwrap(), Path::new("."));
    }
}
