-- The first partitions. Every start makes those that are missing, and the keeper makes later ones.

drop function app.attach_first_partition(regclass);
select app.make_partitions();
