"""Pictures that explain a chip, and pages made of them: from values only, as SVG and HTML."""

from presilicon.view.floorplan import Die, floorplan
from presilicon.view.picture import Picture, page_style, style, table
from presilicon.view.roofline import roofline
from presilicon.view.scatter import Comparison, Design, Measure, pareto, published
from presilicon.view.serving import Point, distribution, over_time, throughput_latency
from presilicon.view.stacks import Stack, stacks
from presilicon.view.timeline import timeline
from presilicon.view.tornado import Bar, tornado
from presilicon.view.wafer import Wafer, wafer_map

__all__ = [
    "Bar",
    "Comparison",
    "Design",
    "Die",
    "Measure",
    "Picture",
    "Point",
    "Stack",
    "Wafer",
    "distribution",
    "floorplan",
    "over_time",
    "page_style",
    "pareto",
    "published",
    "roofline",
    "stacks",
    "style",
    "table",
    "throughput_latency",
    "timeline",
    "tornado",
    "wafer_map",
]
