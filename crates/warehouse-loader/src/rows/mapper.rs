//! An event to the rows it makes, by its type (warehouse schema rules §1).

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use ahash::RandomState;
use millrace_connector::WriteMode;
use millrace_event_model::{Event, FieldType, Reason};
use sonic_rs::Value;

use super::cells::{Column, Columns, NameId, NameTable, NewCell, Passes, Places, RULES, Spare};
use super::datatype::is_blank;
use super::flatten::{Collision, Flattener, KeyOrder};
use super::json::parse_object;
use super::message::{Given, Message, last};
use super::options::{Naming, OwnOptions};
use super::rules::Kind;
use super::shape::{Root, Shape};
use super::tables::{Room, TableBlock};
use super::{Mapping, RowsOfTables};

/// How many keys, names and events are remembered before all are forgotten: some megabytes. Clients may
/// send keys without end (ids as keys); then names are made anew, which is slow and no more.
const MAX_REMEMBERED: usize = 20_000;

/// Maps the events of one connection, and remembers the names it has made. One thread has one.
#[derive(Debug)]
pub struct RowMapper<'d> {
    mapping: Mapping<'d>,
    shapes: HashMap<(Kind, Naming), Shape<'d>, RandomState>,
    names: NameTable,
    places: [Places; 2],
    passes: Passes,
    room: Room,
    spare: Spare,
}

/// A row with its table.
#[derive(Debug)]
pub(super) struct NewRow<'e> {
    pub(super) table: Arc<str>,
    /// Its own columns.
    pub(super) columns: Vec<Column<'e>>,
    /// More columns, that another row of the event has as well.
    pub(super) shared: Rc<Vec<Column<'e>>>,
    /// Columns that are set at load: what an event says for them counts for nothing.
    pub(super) at_load: Arc<[NameId]>,
    pub(super) write: Arc<WriteMode>,
}

impl<'e> NewRow<'e> {
    /// All columns, each of another name.
    pub(super) fn all_columns(&self) -> impl Iterator<Item = &Column<'e>> {
        self.columns.iter().chain(self.shared.iter())
    }
}

/// Why there are no rows yet.
enum Stop {
    /// None will be.
    Rejected(Reason),
    /// Once more, with [`KeyOrder::Sorted`].
    Collision,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Rejected(reason)
    }
}

impl From<Collision> for Stop {
    fn from(_: Collision) -> Self {
        Self::Collision
    }
}

impl<'d> RowMapper<'d> {
    /// A mapper that knows no name yet.
    #[must_use]
    pub fn new(mapping: Mapping<'d>) -> Self {
        Self {
            mapping,
            shapes: HashMap::default(),
            names: NameTable::default(),
            places: Default::default(),
            passes: Passes::default(),
            room: Room::default(),
            spare: Spare::default(),
        }
    }

    /// For the rows of a stretch of events, with room for as many as the one before had.
    #[must_use]
    pub fn begin(&mut self) -> RowsOfTables {
        RowsOfTables::with_room(std::mem::take(&mut self.room))
    }

    /// The rows of a stretch that [`Self::begin`] began, sorted by table.
    pub fn end(&mut self, rows: RowsOfTables) -> Vec<TableBlock> {
        self.room = rows.lens();
        rows.finish()
    }

    /// Adds the rows of an event from Kafka, all or none; says how many they are.
    ///
    /// # Errors
    /// The event is rejected with this reason: it is no JSON object, or breaks a rule of its type.
    pub fn event(&mut self, event: &Event, into: &mut RowsOfTables) -> Result<usize, Reason> {
        let invalid = || Reason::new("invalid_json", "the event is not a JSON object");
        let body = parse_object(&event.body).ok_or_else(invalid)?;
        let message = Message::of_event(event, &body);
        let rows = self.rows(&message)?;
        for row in &rows {
            into.push(row, &self.names);
        }
        let made = rows.len();
        for NewRow { columns, shared, .. } in rows {
            self.spare.keep(columns);
            // The last of the rows that share them has them.
            if let Ok(shared) = Rc::try_unwrap(shared) {
                self.spare.keep(shared);
            }
        }
        Ok(made)
    }

    pub(super) fn names(&self) -> &NameTable {
        &self.names
    }

    /// The rows, in the order in which RudderStack writes them.
    pub(super) fn rows<'e>(&mut self, message: &'e Message<'e>) -> Result<Vec<NewRow<'e>>, Reason> {
        let Some(kind) = Kind::of(&message.event_type) else {
            return match message.event_type.as_ref() {
                // Only for identity resolution in the warehouse, which is not built in.
                "merge" => Ok(Vec::new()),
                other => Err(Reason::new("unknown_event_type", format!("Unknown event type: {other:?}"))),
            };
        };
        if self.shapes.values().map(Shape::len).sum::<usize>() > MAX_REMEMBERED {
            self.shapes.clear();
            self.names = NameTable::default();
        }
        let own = OwnOptions::of(message.integrations, self.mapping.dialect);
        match self.rows_in_order(message, kind, own.clone(), KeyOrder::AsWritten) {
            Err(Stop::Collision) => {}
            Err(Stop::Rejected(reason)) => return Err(reason),
            Ok(rows) => return Ok(rows),
        }
        match self.rows_in_order(message, kind, own, KeyOrder::Sorted) {
            Ok(rows) => Ok(rows),
            Err(Stop::Rejected(reason)) => Err(reason),
            // Sorted keys do not collide: each wins over those before it.
            Err(Stop::Collision) => Ok(Vec::new()),
        }
    }

    fn rows_in_order<'e>(
        &mut self,
        message: &'e Message<'e>,
        kind: Kind,
        own: OwnOptions,
        order: KeyOrder,
    ) -> Result<Vec<NewRow<'e>>, Stop> {
        let Self { mapping, shapes, names, places: [first, second], passes, spare, .. } = self;
        let OwnOptions { skip_tracks_table, skip_users_table, naming } = own;
        let new_shape = |(kind, naming): &(Kind, Naming)| Shape::new(*kind, naming, mapping, names);
        let shape = shapes.entry((kind, naming)).or_insert_with_key(new_shape);
        let mut event = EventRows { message, mapping, shape, names, passes, order };
        let common = Columns::new(first, spare);
        match kind {
            Kind::Track => {
                let own = Columns::new(second, spare);
                event.track(common, own, skip_tracks_table || mapping.options.skip_tracks_table)
            }
            Kind::Identify => {
                let users = Columns::new(second, spare);
                event.identify(common, users, skip_users_table || mapping.options.skip_users_table)
            }
            Kind::Page | Kind::Screen => event.single(common, Root::Properties, message.properties),
            Kind::Group | Kind::Alias => event.single(common, Root::Traits, message.traits),
            Kind::Extract => event.extract(common),
        }
    }
}

/// One event on its way to rows.
struct EventRows<'w, 'e, 'd> {
    message: &'e Message<'e>,
    mapping: &'w Mapping<'d>,
    shape: &'w mut Shape<'d>,
    names: &'w mut NameTable,
    passes: &'w mut Passes,
    order: KeyOrder,
}

impl<'e> EventRows<'_, 'e, '_> {
    fn track(
        &mut self,
        mut common: Columns<'e, '_>,
        mut own: Columns<'e, '_>,
        skip_tracks_table: bool,
    ) -> Result<Vec<NewRow<'e>>, Stop> {
        let message = self.message;
        let record_id = self.cloud_record_id()?;
        let event = self.shape.event_names(&message.event.text());
        self.context(&mut common)?;
        self.rules(&mut common);
        // Even without a name: the rows of a track event have this column.
        let name = (FieldType::String, NewCell::Shared(event.event));
        common.set(self.shape.fixed.event, name, RULES);
        // Its record and the whole event are columns that only one of the two rows has.
        let are_alike = record_id.is_none() && !self.mapping.options.store_full_event;
        if let Some(table) = &event.table
            && are_alike
            && !skip_tracks_table
        {
            self.flatten(message.properties, Root::Properties, &mut own)?;
            self.flatten(message.user_properties, Root::UserProperties, &mut own)?;
            own.leave_to(&common);
            let shared = Rc::new(common.finish());
            let own = self.row(table.clone()?, own.finish(), Rc::clone(&shared))?;
            let of_all = self.row(self.shape.fixed.table.clone()?, Vec::new(), shared)?;
            return Ok(vec![of_all, own]);
        }
        let mut own_row = None;
        if let Some(table) = event.table {
            self.flatten(message.properties, Root::Properties, &mut own)?;
            self.flatten(message.user_properties, Root::UserProperties, &mut own)?;
            own.extend(&common);
            if let Some(id) = &record_id {
                self.set(self.shape.fixed.id, id, &mut own);
            }
            own_row = Some(self.finish(table?, own)?);
        }
        let mut rows = Vec::with_capacity(2);
        if !skip_tracks_table {
            if let Some(id) = record_id {
                self.set(self.shape.fixed.record_id, &Given::Text(id.text()), &mut common);
            }
            self.whole_event(&mut common);
            rows.push(self.finish(self.shape.fixed.table.clone()?, common)?);
        }
        rows.extend(own_row);
        Ok(rows)
    }

    fn identify(
        &mut self,
        mut common: Columns<'e, '_>,
        mut users: Columns<'e, '_>,
        skip_users_table: bool,
    ) -> Result<Vec<NewRow<'e>>, Stop> {
        let message = self.message;
        self.flatten(message.user_properties, Root::UserProperties, &mut common)?;
        if self.mapping.options.allow_users_context_traits {
            self.flatten(message.context_field("traits"), Root::ContextTraits, &mut common)?;
        }
        self.flatten(message.traits, Root::Traits, &mut common)?;
        self.context(&mut common)?;
        let has_user = !skip_users_table && !message.user_id.is_blank();
        if has_user {
            users.extend(&common);
        }
        self.rules(&mut common);
        self.whole_event(&mut common);
        let mut rows = Vec::with_capacity(2);
        rows.push(self.finish(self.shape.fixed.table.clone()?, common)?);
        if has_user {
            for (name, from) in &self.shape.fixed.users_rules {
                self.set(*name, from.value(message), &mut users);
            }
            let row = self.finish(self.shape.fixed.users_table.clone()?, users)?;
            rows.push(NewRow { write: Arc::clone(&self.shape.fixed.merge_latest), ..row });
        }
        Ok(rows)
    }

    fn single(
        &mut self,
        mut columns: Columns<'e, '_>,
        root: Root,
        properties: Option<&'e Value>,
    ) -> Result<Vec<NewRow<'e>>, Stop> {
        self.flatten(properties, root, &mut columns)?;
        self.context(&mut columns)?;
        self.rules(&mut columns);
        self.whole_event(&mut columns);
        Ok(vec![self.finish(self.shape.fixed.table.clone()?, columns)?])
    }

    fn extract(&mut self, mut columns: Columns<'e, '_>) -> Result<Vec<NewRow<'e>>, Stop> {
        let message = self.message;
        let event = message.event.text();
        let record_id = message.record_id()?;
        let Some(table) = self.shape.event_names(&event).table else {
            return Err(Reason::new(
                "event_name_missing",
                "cannot create event table with empty event name",
            ))?;
        };
        self.flatten(message.properties, Root::Properties, &mut columns)?;
        self.context(&mut columns)?;
        self.set(self.shape.fixed.event, &Given::Text(event), &mut columns);
        self.set(self.shape.fixed.id, &record_id, &mut columns);
        self.rules(&mut columns);
        Ok(vec![self.finish(table?, columns)?])
    }

    fn flatten(
        &mut self,
        value: Option<&'e Value>,
        root: Root,
        columns: &mut Columns<'e, '_>,
    ) -> Result<(), Collision> {
        self.flatten_with(value, root, None, columns)
    }

    fn flatten_with(
        &mut self,
        value: Option<&'e Value>,
        root: Root,
        more: Option<(&'e str, &'e Value)>,
        columns: &mut Columns<'e, '_>,
    ) -> Result<(), Collision> {
        if value.is_none() && more.is_none() {
            return Ok(());
        }
        let cloud = self.mapping.source.category.as_deref() == Some("cloud");
        let pass = self.passes.next();
        let (shape, names, order) = (&mut *self.shape, &mut *self.names, self.order);
        Flattener { shape, names, cloud, order, pass }.flatten(value, root, more, columns)
    }

    /// The columns of the context, and of where the event comes from and goes to.
    fn context(&mut self, columns: &mut Columns<'e, '_>) -> Result<(), Collision> {
        let place = self.message.place.as_ref().map(|place| ("geo", place));
        self.flatten_with(self.message.context, Root::Context, place, columns)?;
        if self.message.has_context() {
            for (name, typed) in &self.shape.fixed.surroundings {
                columns.set(*name, typed.clone(), RULES);
            }
        }
        Ok(())
    }

    fn rules(&self, columns: &mut Columns<'e, '_>) {
        for (name, from) in &self.shape.fixed.rules {
            self.set(*name, from.value(self.message), columns);
        }
    }

    /// Sets a column to a value that a rule gave. A value that is blank, a list or an object is none: then
    /// there is no such column, whoever set it before.
    fn set(&self, name: NameId, given: &Given<'e>, columns: &mut Columns<'e, '_>) {
        match given.typed(self.mapping.dialect) {
            Some(typed) => {
                columns.set(name, typed, RULES);
            }
            None => columns.remove(name),
        }
    }

    fn whole_event(&self, columns: &mut Columns<'e, '_>) {
        if !self.mapping.options.store_full_event {
            return;
        }
        let field_type = self.mapping.dialect.full_event;
        let text = self.message.whole().into();
        let cell = if field_type == FieldType::Json { NewCell::Json(text) } else { NewCell::String(text) };
        columns.set(self.shape.fixed.whole_event, (field_type, cell), RULES);
    }

    /// The record of a cloud source, where the event is one of its sync jobs.
    fn cloud_record_id(&self) -> Result<Option<Given<'e>>, Reason> {
        let category = self.mapping.source.category.as_deref();
        if !matches!(category, Some("cloud" | "singer-protocol")) {
            return Ok(None);
        }
        let sources = self.message.context_field("sources");
        if sources.and_then(|sources| last(sources, "version")).is_none_or(is_blank) {
            return Ok(None);
        }
        self.message.record_id().map(Some)
    }

    fn finish(&self, table: Arc<str>, columns: Columns<'e, '_>) -> Result<NewRow<'e>, Reason> {
        self.row(table, columns.finish(), Rc::default())
    }

    /// Holds the limit of columns, which counts those that are set at load.
    fn row(
        &self,
        table: Arc<str>,
        columns: Vec<Column<'e>>,
        shared: Rc<Vec<Column<'e>>>,
    ) -> Result<NewRow<'e>, Reason> {
        let dialect = self.mapping.dialect;
        let at_load = &self.shape.fixed.at_load;
        let is_there =
            |name: &&NameId| columns.iter().chain(shared.iter()).any(|column| column.name == **name);
        let count = columns.len() + shared.len() + at_load.len() - at_load.iter().filter(is_there).count();
        let limited = !dialect.data_lake && self.message.channel.text() != "sources";
        if count > self.mapping.options.max_columns && limited {
            let name = dialect.rudder_name.to_lowercase();
            let message = format!("{name} transformer: Too many columns outputted from the event");
            return Err(Reason::new("too_many_columns", message));
        }
        let write = Arc::clone(&self.shape.fixed.append);
        Ok(NewRow { table, columns, shared, at_load: Arc::clone(at_load), write })
    }
}
