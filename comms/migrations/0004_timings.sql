-- How long each stage of a recording's walk took: shown to operators, summed by metrics.

create table stage_timings (
    tenant_id uuid not null references tenants (id),
    id uuid not null default uuidv7(),
    recording_id uuid not null,
    stage text not null,
    audio_seconds double precision not null check (audio_seconds >= 0),
    wall_seconds double precision not null check (wall_seconds >= 0),
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, recording_id) references recordings (tenant_id, id)
);
create index stage_timings_recording on stage_timings (tenant_id, recording_id, id);
alter table stage_timings enable row level security;
alter table stage_timings force row level security;
grant select on stage_timings to wcc_app;
grant select, insert on stage_timings to wcc_worker;
-- Members of the tenant see how long its recordings took; the worker writes what it measured.
create policy own_tenant on stage_timings to wcc_app, wcc_worker
    using (tenant_id = (select app.tenant())) with check (tenant_id = (select app.tenant()));
