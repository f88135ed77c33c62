//! The worked examples in PROTOCOL.md, as text: what the machines write over a connection with two drops, and about a question that
//! nobody answers in time.

use std::fmt::Write as _;
use std::time::Duration;

use reattach_core::hub::Call;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionResponse;
use reattach_core::permission::DenyReason;
use reattach_core::permission::Removed;
use reattach_core::permission::Status;
use reattach_core::permission::Verdict;

use crate::ensemble::Ensemble;
use crate::ensemble::question;
use crate::ensemble::request;
use crate::net::Way;
use crate::world::World;
use crate::world::secrets;
use crate::world::steady;

/// A connection from its first hello to its goodbye, with two drops in between.
pub fn two_drops() -> String {
    let mut world = World::new();
    let mut story = Story { start: world.now.as_millis(), told: 0, text: String::new() };
    story.say("The client attaches for the first time. Each message takes 10 ms.");
    world.add_client(steady(), secrets(1));
    world.drive();
    story.tell(&world, &[]);

    story.say("Both sides send a message, and both applications take what comes.");
    world.send_up("one");
    world.send_down("first");
    world.drive();
    story.tell(&world, &[]);

    story.say("The client sends two more. The transport breaks before they arrive, and both sides hear of it.");
    world.send_up("two");
    world.send_up("three");
    story.drop_transport(&mut world);

    story.say(
        "After a second (backoff without jitter) it comes back. The server has received 1: 2 and 3 are written again.",
    );
    world.run_for(Duration::from_secs(1));
    world.drive();
    story.tell(&world, &[]);

    story.say("The client sends 4. It arrives and is taken; what the server says to that is lost with the transport.");
    world.send_up("four");
    world.run_for(Duration::from_millis(10));
    world.send_down("second");
    world.pump();
    story.drop_transport(&mut world);

    story.say(
        "The hello shows that the client holds 4 unsettled; the welcome, that the server has settled it. So 4 is \
         delivered, and not written again. The server writes its 2 again. (The delay has doubled: the transport did not stay \
         attached for 5 s.)",
    );
    world.run_for(Duration::from_secs(2));
    world.drive();
    story.tell(&world, &[]);

    story.say("The client has nothing left to send and ends the connection.");
    let now = world.now;
    world.client().client.close(Duration::from_secs(1), now);
    world.drive();
    story.tell(&world, &[]);
    story.text
}

/// A question that is asked, seen, and still open when the client comes back from a cut; and that times out.
pub fn question_that_times_out() -> String {
    let mut it = Ensemble::attached();
    // Behind the handshake, which is in the other example.
    it.run_for(Duration::from_secs(1));
    let mut story = Story { start: it.world.now.as_millis(), told: it.world.texts.len(), text: String::new() };
    let session = it.create_session("s1", 0);

    story.say("The client watches the session s1: nothing has happened in it, and nothing is asked.");
    it.watch(0, &session);
    it.run_for(Duration::from_millis(100));
    story.tell(&it.world, &[]);

    story.say(
        "The program asks, and waits for ten seconds. Who watches hears of it and of the queue, and shows a dialog.",
    );
    it.ask_within(&session, request("p1"), Some(Duration::from_secs(10)));
    it.run_for(Duration::from_millis(100));
    assert_eq!(it.users[0].dialog("p1"), Some(&Status::Pending));
    story.tell(&it.world, &[]);

    story.say("A person looks at it, which the queue says too.");
    it.look(0, "p1", true);
    it.run_for(Duration::from_millis(100));
    assert_eq!(it.users[0].queues[&session], (0, 1));
    story.tell(&it.world, &[]);

    story.say("The transport breaks. The server forgets who looks; nobody is there to be told, and it waits in the session's log.");
    it.world.cut(0);
    it.settle();
    story.tell(&it.world, &[]);

    story.say(
        "The client comes back, and watches again from where it was. What is open comes with the response, with the time that is \
         left; what happened meanwhile comes in the lane, behind the new tag. What came for the watch before (7) has waited for \
         that tag, and is passed over. The person still looks, and the client says so again.",
    );
    it.run_for(Duration::from_secs(2));
    assert_eq!((it.users[0].dialog("p1"), &*it.users[0].shown), (Some(&Status::Pending), &[question("p1")][..]));
    story.tell(&it.world, &[]);

    story.say("Ten seconds after it was asked the question is denied. The dialog goes.");
    it.run_for(Duration::from_secs(8));
    assert_eq!(it.verdicts("p1"), [Verdict::Deny(DenyReason::TimedOut)]);
    assert_eq!(it.users[0].removed, [(question("p1"), Removed::TimedOut)]);
    story.tell(&it.world, &[]);

    story.say("An answer that comes now comes too late, and is told so. What was decided stands.");
    let allow = Choice::Allow { updated_input: None };
    it.request_hub(0, &Call::Answer(PermissionResponse { request_id: question("p1"), choice: allow }));
    it.run_for(Duration::from_millis(100));
    assert_eq!(it.verdicts("p1").len(), 1);
    story.tell(&it.world, &[]);
    story.text
}

struct Story {
    start: u64,
    /// How many of the world's texts have been told.
    told: usize,
    text: String,
}

impl Story {
    fn say(&mut self, words: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        for line in wrap(words, 116) {
            _ = writeln!(self.text, "# {line}");
        }
    }

    /// Cuts the client's transport and tells what was on its way as lost.
    fn drop_transport(&mut self, world: &mut World) {
        world.pump();
        let wire = world.wire(0);
        let lost: Vec<_> = Way::BOTH
            .into_iter()
            .flat_map(|way| world.net.in_flight(wire, way).into_iter().map(move |t| (way, t)))
            .collect();
        world.cut(0);
        self.tell(world, &lost);
    }

    fn tell(&mut self, world: &World, lost: &[(Way, String)]) {
        for (at, _, way, text) in &world.texts[self.told..] {
            let arrow = match way {
                Way::Up => "C -> S",
                Way::Down => "S -> C",
            };
            let is_lost = lost.iter().any(|(lost_way, lost_text)| lost_way == way && lost_text == text);
            let note = if is_lost { "  lost" } else { "" };
            for (index, frame) in text.lines().enumerate() {
                let frame = shorten(frame);
                if index == 0 {
                    _ = writeln!(self.text, "{:>5} ms  {arrow}{note}  {frame}", at.as_millis() - self.start);
                } else {
                    _ = writeln!(self.text, "          |{note}       {frame}");
                }
            }
        }
        self.told = world.texts.len();
    }
}

/// Leaves the first four digits of every nonce, and of every connection id.
fn shorten(frame: &str) -> String {
    let mut short = String::new();
    for (index, piece) in frame.split('"').enumerate() {
        if index > 0 {
            short.push('"');
        }
        let is_nonce = piece.len() == 32 && piece.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_nonce {
            _ = write!(short, "{}..", &piece[..4]);
        } else if piece.starts_with("cid-") && piece.len() == 40 {
            _ = write!(short, "{}..", &piece[..8]);
        } else {
            short.push_str(piece);
        }
    }
    short
}

fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let line = lines.last_mut().expect("there is always a last line");
        if line.len() + word.len() + 1 > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
